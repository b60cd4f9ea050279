"""Models in use -> comparison of champion and challenger, and what is decided of them."""
