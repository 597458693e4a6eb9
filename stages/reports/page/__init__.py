"""A run, or several side by side, as one HTML file that needs nothing else: `write`.

figures.py gathers a run's sections (results, data, training, texts); samples.py chooses the rows that are
shown one by one, ways.py tells how each came about; charts.py draws; embed.py makes data safe inside of HTML.
report.html.jinja is the page, with report.css and report.js.

Everything but the rows is plain HTML and SVG, which is readable where scripts are not run. The page loads
nothing: its content security policy allows its own style and script, by their hashes, and no connection.
"""

from stages.reports.page.build import NAME, render, try_write, write

__all__ = ["NAME", "render", "try_write", "write"]
