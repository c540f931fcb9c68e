"""What the study claims, what is wrong in it, and its models beside ours."""
