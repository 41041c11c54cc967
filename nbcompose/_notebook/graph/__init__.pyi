from .cards import LiveCardsWidget as LiveCardsWidget
from .display import graph as graph
from .display import show as show
