"""The report: one HTML file that needs nothing but a browser, and its tables and figures for papers.

``runs`` reads records and where they come from, ``sheets`` makes the tables, ``worst`` the cases that went wrong,
``words`` the sentences of the summary, ``data`` what the plots draw, ``html`` the page, ``report`` all of it.
"""
