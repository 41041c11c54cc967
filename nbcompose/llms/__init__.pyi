from .language_model import Chat as Chat
from .language_model import Generation as Generation
from .language_model import LanguageModel as LanguageModel
from .language_model import Message as Message
from .language_model import Prompt as Prompt
from .language_model import Usage as Usage
from .openai_model import OpenAIModel as OpenAIModel
from .text_generator import TextGenerator as TextGenerator
