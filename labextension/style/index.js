import "./base.css";
import "../../nbcompose/_notebook/graph/static/graph.css";
