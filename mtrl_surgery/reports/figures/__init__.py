"""Figures as plain dictionaries in Plotly's format, `{"data": [...], "layout": {...}}`.

They are drawn by Plotly's JavaScript in the report and the dashboard, and by matplotlib for PNG (`png.py`): making one
imports neither. They leave paper, text and grid to the page's theme, so that one figure serves light and dark.
"""
