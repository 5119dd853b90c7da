"""Which number of which part stands under which name on /metrics; a file a subject.

Parts count into Stats of their own and know no names; here they get them. Beside app.py the only
rooms that know concrete parts, and they only read.
"""
