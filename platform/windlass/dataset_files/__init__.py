"""Reads the text formats of dataset files in bounded memory: encoding, delimiter, rows and the mapping of columns.

Only the standard library and the domain: the data process reads whole files with it, and the client checks the
beginning of a file before an upload. The API never reads dataset files.
"""
