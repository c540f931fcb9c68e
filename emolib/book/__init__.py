"""The rendered book: staging of runs, rendering, what is added to the pages, and looking at them in a browser."""
