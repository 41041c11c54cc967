import "./base.css";
import "../../nbcompose/_replica/http/static/form.css";
import "../../nbcompose/_notebook/graph/static/graph.css";
