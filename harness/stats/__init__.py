"""Groups of runs that differ in their seed only, uncertainty of their scores, and tests between them."""
