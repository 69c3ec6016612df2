//! Tokens to an expression: `not` binds before `and`, `and` before `or`.

use super::lexer::{Placed, Token, tokens};
use super::{DEPTH_MAX, Expression, FilterError};

/// One comparison, as it stands in the text.
#[derive(Debug, PartialEq, Eq)]
pub struct Term {
    pub selector: Vec<String>,
    pub is_negated: bool,
    pub operator: Operator,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Operator {
    Equal(String),
    /// `value in selector` and `selector contains value`.
    In(String),
    Empty,
    Matches(String),
}

pub fn parse(text: &str) -> Result<Expression<Term>, FilterError> {
    let mut parser = Parser { tokens: tokens(text)?.into_iter().peekable(), end: text.len(), depth: 0 };
    let expression = parser.any()?;
    match parser.tokens.next() {
        None => Ok(expression),
        Some((at, _)) => Err(FilterError::Syntax { at, expected: "\"and\", \"or\" or the end" }),
    }
}

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<Placed>>,
    /// Where the text ends.
    end: usize,
    depth: usize,
}

impl Parser {
    fn any(&mut self) -> Result<Expression<Term>, FilterError> {
        let mut parts = vec![self.all()?];
        while self.take_keyword("or") {
            parts.push(self.all()?);
        }
        Ok(joined(parts, Expression::Any))
    }

    fn all(&mut self) -> Result<Expression<Term>, FilterError> {
        let mut parts = vec![self.one()?];
        while self.take_keyword("and") {
            parts.push(self.one()?);
        }
        Ok(joined(parts, Expression::All))
    }

    fn one(&mut self) -> Result<Expression<Term>, FilterError> {
        if self.depth == DEPTH_MAX {
            return Err(FilterError::TooDeep);
        }
        self.depth += 1;
        let expression = if self.take_keyword("not") {
            Expression::Not(Box::new(self.one()?))
        } else if self.tokens.next_if(|(_, token)| *token == Token::Open).is_some() {
            let inside = self.any()?;
            if self.tokens.next_if(|(_, token)| *token == Token::Close).is_none() {
                return Err(self.expected("\")\""));
            }
            inside
        } else {
            Expression::Term(self.term()?)
        };
        self.depth -= 1;
        Ok(expression)
    }

    fn term(&mut self) -> Result<Term, FilterError> {
        let Some((at, first)) = self.tokens.next_if(|(_, token)| !matches!(token, Token::Close)) else {
            return Err(self.expected("a selector or a value"));
        };
        let is_negated = self.tokens.next_if(|(_, token)| *token == Token::NotEqual).is_some();
        if is_negated || self.tokens.next_if(|(_, token)| *token == Token::Equal).is_some() {
            let operator = Operator::Equal(self.value()?);
            return Ok(Term { selector: selector(at, first)?, is_negated, operator });
        }
        if self.take_keyword("is") {
            let is_negated = self.take_keyword("not");
            if !self.take_keyword("empty") {
                return Err(self.expected("\"empty\" or \"not empty\""));
            }
            return Ok(Term { selector: selector(at, first)?, is_negated, operator: Operator::Empty });
        }
        let is_negated = self.take_keyword("not");
        if self.take_keyword("in") {
            let Some((at, token)) = self.tokens.next() else { return Err(self.expected("a selector")) };
            let operator = Operator::In(value(at, first)?);
            return Ok(Term { selector: selector(at, token)?, is_negated, operator });
        }
        if self.take_keyword("contains") {
            let operator = Operator::In(self.value()?);
            return Ok(Term { selector: selector(at, first)?, is_negated, operator });
        }
        if self.take_keyword("matches") {
            let operator = Operator::Matches(self.value()?);
            return Ok(Term { selector: selector(at, first)?, is_negated, operator });
        }
        Err(self.expected("\"==\", \"!=\", \"in\", \"contains\", \"is\", \"matches\" or \"not\""))
    }

    fn value(&mut self) -> Result<String, FilterError> {
        match self.tokens.next() {
            Some((at, token)) => value(at, token),
            None => Err(self.expected("a value")),
        }
    }

    fn take_keyword(&mut self, keyword: &str) -> bool {
        self.tokens.next_if(|(_, token)| matches!(token, Token::Path(parts) if parts.len() == 1 && parts[0] == keyword)).is_some()
    }

    fn expected(&mut self, expected: &'static str) -> FilterError {
        let at = self.tokens.peek().map_or(self.end, |(at, _)| *at);
        FilterError::Syntax { at, expected }
    }
}

fn joined(mut parts: Vec<Expression<Term>>, join: fn(Vec<Expression<Term>>) -> Expression<Term>) -> Expression<Term> {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            join(parts)
        }
        None => join(parts),
    }
}

fn selector(at: usize, token: Token) -> Result<Vec<String>, FilterError> {
    match token {
        Token::Path(parts) => Ok(parts),
        _ => Err(FilterError::Syntax { at, expected: "a selector" }),
    }
}

/// An unquoted value is written as a selector is.
fn value(at: usize, token: Token) -> Result<String, FilterError> {
    match token {
        Token::Path(parts) => Ok(parts.join(".")),
        Token::Number(text) | Token::Text(text) => Ok(text),
        Token::Open | Token::Close | Token::Equal | Token::NotEqual => Err(FilterError::Syntax { at, expected: "a value" }),
    }
}
