"""Releases of ORFEAS on a server: start, switch, drain, go back. Only the standard library: it runs on the host."""
