"""The same pipeline behind other servers; each module is a program that runs in an environment of its own."""
