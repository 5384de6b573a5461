"""The heavy parts: each does one thing with torch or its relatives and knows few others."""
