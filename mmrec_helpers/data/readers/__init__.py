"""Real raw files as a RecDataset, with a report that counts every row that was dropped or repaired."""
