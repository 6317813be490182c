"""The papers' tables: Delta-m, published rows, and our own runs beside them."""
