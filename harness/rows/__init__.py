"""Files of any kind become rows, each mistake in them a sentence."""
