"""Write folders of images for the sites of the federation in docs/federation.md."""

from pathlib import Path

from eval.deployment.example_data import write_digits
from pfedmoap.config.exact_options import command_parser, parse


def main() -> None:
    """Write them."""
    parser = command_parser(__doc__ or "")
    parser.add_argument("--out", required=True, help="folder to write to")
    parser.add_argument("--sites", required=True, help="names of the sites, with commas")
    options = parse(parser, None)
    print(write_digits(Path(options.out), options.sites.split(",")))


if __name__ == "__main__":
    main()
