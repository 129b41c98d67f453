"""The input and output of the asynchronous client, written by hand; the blocking one is made from it."""
