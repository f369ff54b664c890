"""How fast it is: rows, peers, curves and bounds of `tiergym bench`, time to a score, and their page.

Ratios against a reference of the same run; nothing here is a test.
"""
