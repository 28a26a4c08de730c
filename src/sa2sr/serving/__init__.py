"""The API and the page: predictions for programs and people who are not on this machine, or not of this language.

An upload is received in bounded memory (``requests``), decoded in a process of its own (``decoding``, ``decoder``) and
predicted together with what other clients sent (``batching``). ``streaming`` does the same for live audio.
"""
