"""Forgets `if __name__ == "__main__":`."""

import nbcompose


@nbcompose.service
class Hello:
    @nbcompose.api
    def greet(self) -> str:
        return "hello"


nbcompose.serve(Hello, port=0)
