import time
def test_x(finished):
    run, said = finished
    print(said.out); print(said.err)
    import os
    os.system(f"find {run} | sort; cat {run}/manifest.json | tail -60")
    from tiny_model import texts_of
    print(texts_of(run)['completions'][:5])
    os.system(f"rm -rf /tmp/work/tinyrun; cp -r {run} /tmp/work/tinyrun")
