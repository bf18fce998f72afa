"""What a run left behind, made readable: one file per output, each with ``render(record) -> str``.

``html`` is the page, ``terminal`` the end of a run and the tables, ``compare`` several runs side by
side, ``svg`` small pictures for notebooks, ``json`` the record itself. Everything here reads the
plain records of ``loopwright.events`` and nothing else; torch is never imported.
"""
