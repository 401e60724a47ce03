"""A page to try the zoo in a browser: `mdan-zoo demo`. Needs `pip install 'mdan-zoo[demo]'`.

Gradio lays out the page, takes the uploads and queues the users. The answers are HTML of our own,
in which an image, its maps and its tables are data: nothing that a user gave or got can be fetched
from the server, and clicking through the maps of an image asks the server nothing.

server.py    the address and the limits
uploads.py   the folder of the uploads, and how long they stay
guard.py     what of Gradio's server is reachable, and what a browser may load
app.py       the page and what happens on it
answer.py    images in, HTML out
panel.py     one image with its tree and maps
table.py     many images as a table, CSV and JSON
models.py    which models are at hand
text.py      what the page says of them
"""
