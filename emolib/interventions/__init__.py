"""What several experiments that intervene share: pairs to patch, vectors to push, and the theory score."""
