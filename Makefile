# Each command is `python3 tools/tasks.py NAME`, so that nobody needs make.
PYTHON ?= python3

.PHONY: book test setup real html notebooks export data classroom slides colab release lab serve results pretrained bench gpu lock lint clean help
book test setup real html notebooks export data classroom slides colab release lab serve results pretrained bench gpu lock lint clean help:
	@$(PYTHON) tools/tasks.py $@

.DEFAULT_GOAL := help
