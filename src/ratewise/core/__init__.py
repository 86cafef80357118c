"""The algebra of schedules. Standard library only; knows no framework."""
