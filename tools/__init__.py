"""What builds files of this repository: the archive evloop.pyz, the completions of the shells."""
