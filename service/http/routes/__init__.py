"""The contract's routes, one module per noun. A route reads, checks and answers; the work is done below."""
