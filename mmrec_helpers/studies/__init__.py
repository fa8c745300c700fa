"""What a chapter's notebooks and its experiment share."""
