"""One personalization measured by its pictures: prompts by kind, figures with intervals, table, chart and sheet."""
