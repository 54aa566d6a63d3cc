"""Write folders of images to try a federation of sites with; see ``--help``."""

from eval.commands.example_sites import main

if __name__ == "__main__":
    main()
