# The parts of gates.pyx; Cython.Coverage looks for its C file above a folder only if that is a package.
