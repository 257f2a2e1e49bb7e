"""The Tutor plugin: everything the manual procedure edits in generated files, as patches."""
