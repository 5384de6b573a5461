"""Many runs: which, in which order, at what cost, each in a process of its own."""
