"""Comparisons, rendered: plain plot data, tables, matplotlib figures, one offline HTML page, and Markdown.

Everything here takes the object that ``ratewise compare --json`` prints, a plain dict, and computes no statistics but
counts, places and shares: a stored result can be drawn years later without the lab that made it. Missing optional keys
leave gaps, never errors.
"""
