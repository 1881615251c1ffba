"""What is not published yet: files on their way in, drafts, and how they become courseware."""
