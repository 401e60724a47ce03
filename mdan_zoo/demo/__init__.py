"""Web demo: `mdan-zoo demo` serves a page to try the models. Needs `pip install 'mdan-zoo[demo]'`.

Gradio provides the page layout, uploads and queue. Answers are self-contained HTML with images,
maps and tables as data URLs, so the server stores no results and switching maps needs no request.

server.py    listening socket, limits, application
uploads.py   upload folder and its expiry
guard.py     allowed requests and Content Security Policy
app.py       page layout and events
answer.py    HTML of an answer
panel.py     HTML of one image with its hierarchy and maps
table.py     HTML table of several images, CSV and JSON downloads
models.py    available models
text.py      texts of the page
gradio_import.py   import of Gradio without telemetry
"""
