"""Programs that tests start; nothing here is a test."""

collect_ignore_glob = ["*.py"]
