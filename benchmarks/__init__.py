"""The microbenchmark suite against other libraries (`make bench`), and the breaker's efficacy."""
