"""The pocket models: small checkpoints of ordinary classes, the recipe that trained them, and what they can do."""
