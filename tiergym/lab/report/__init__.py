"""`tiergym report`: results of any command, a training run or a suite as one HTML page that needs nothing else.

`sources` reads or measures what is named and gives a `Part` of each (`parts`); `results_reading` checks what files say;
`replayed` runs an episode again; `charts` turns numbers into places on the page; `page` renders `page.html`.
"""
