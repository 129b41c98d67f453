# Made by dev/unasync.py from the module of the same name in _async. Change that one, then run the script.
"""The input and output of the asynchronous client, written by hand; the blocking one is made from it."""
