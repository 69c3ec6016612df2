//! What the elements of an answer hold: which selectors are valid and which operators they take.

/// A type of JSON, as far as filters know it. A field that an element leaves out is empty, zero or false.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    Text,
    Flag,
    Number,
    /// A selector looks into each item; one that fits is enough.
    List(&'static Shape),
    /// By any key.
    Map(&'static Shape),
    Struct(&'static [(&'static str, Shape)]),
}

impl Shape {
    /// The shape of a field, by its exact name.
    pub fn field(self, name: &str) -> Option<Shape> {
        match self {
            Shape::Struct(fields) => fields.iter().find(|(known, _)| *known == name).map(|(_, shape)| *shape),
            _ => None,
        }
    }
}
