"""Print the page of the documentation."""

from resilio._private_names import page

if __name__ == "__main__":
    print(page(), end="")
