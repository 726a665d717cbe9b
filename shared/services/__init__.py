"""The services side: how an instance is built, given what it needs, introduced, watched and taken down."""
