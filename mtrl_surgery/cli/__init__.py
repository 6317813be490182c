"""What every command line of ours is made of: typed KEY=VALUE words, hydra, and errors said in one sentence."""
