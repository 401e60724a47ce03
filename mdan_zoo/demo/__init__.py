"""Web demo: `mdan-zoo demo` serves a page to try the models. Needs `pip install 'mdan-zoo[demo]'`.

Gradio provides the page layout, uploads and queue. Answers are self-contained HTML with images,
maps and tables as data URLs, so the server stores no results and switching maps needs no request.
"""
