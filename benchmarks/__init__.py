"""The microbenchmark suite against other libraries (`make bench`), and what the policies achieve."""
