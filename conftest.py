"""What pytest does not import to look for doctests."""

collect_ignore = ["src/ratewise/torch/lightning.py"]  # Lightning takes seconds; its own tests run the example there
