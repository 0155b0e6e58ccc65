"""The answers of items: tables, figures and pages, all of them functions of the lines of their runs."""
