"""Serinus: a progressive delivery controller for Kubernetes."""
